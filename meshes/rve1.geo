// A periodic cell of 1 x 1, fibres in a square packing turned by 45°: a circle at the centre and a quarter
// at each corner, volume fraction 0.55 (RVE 1 of Eivazi et al. 2025, arXiv 2504.07976). Quadrilaterals of
// second order; opposite sides have the same points.
SetFactory("OpenCASCADE");
n = 12; // intervals on a side before the cells are split into quadrilaterals; 25: about the published mesh
R = Sqrt(0.55 / (2 * Pi));

Rectangle(1) = {-0.5, -0.5, 0, 1, 1};
Disk(2) = {0, 0, 0, R};
Disk(3) = {-0.5, -0.5, 0, R};
Disk(4) = {0.5, -0.5, 0, R};
Disk(5) = {0.5, 0.5, 0, R};
Disk(6) = {-0.5, 0.5, 0, R};
inside() = BooleanIntersection{ Surface{2:6}; Delete; }{ Surface{1}; };
all() = BooleanFragments{ Surface{1}; Delete; }{ Surface{inside()}; Delete; };
e = 1e-6;
m = 0.5 + e;
circle() = Surface In BoundingBox {-R - e, -R - e, -e, R + e, R + e, e};
lower() = Surface In BoundingBox {-m, -m, -e, m, -0.5 + R + e, e};
upper() = Surface In BoundingBox {-m, 0.5 - R - e, -e, m, m, e};
fibres() = {circle(), lower(), upper()};
matrix() = all();
matrix() -= fibres();

Physical Surface("matrix") = {matrix()};
Physical Surface("inclusion") = {fibres()};
left() = Curve In BoundingBox {-m, -m, -e, -0.5 + e, m, e};
right() = Curve In BoundingBox {0.5 - e, -m, -e, m, m, e};
bottom() = Curve In BoundingBox {-m, -m, -e, m, -0.5 + e, e};
top() = Curve In BoundingBox {-m, 0.5 - e, -e, m, m, e};
Periodic Curve {right()} = {left()} Translate {1, 0, 0};
Periodic Curve {top()} = {bottom()} Translate {0, 1, 0};
Physical Curve("left") = {left()};
Physical Curve("right") = {right()};
Physical Curve("bottom") = {bottom()};
Physical Curve("top") = {top()};

MeshSize { PointsOf { Surface{all()}; } } = 1 / n;
Mesh.MeshSizeMax = 1 / n;
Mesh.Algorithm = 6;
Mesh.RecombineAll = 1;
Mesh.RecombinationAlgorithm = 0; // the others put two sides of a cell on one arc
Mesh.SubdivisionAlgorithm = 1;
Mesh.ElementOrder = 2;
