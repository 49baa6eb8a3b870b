// A periodic cell of 1 x 1 with an ellipse of semi-axes 0.35 and 0.175 at 30°, volume fraction 0.19242 (RVE 2 of
// Eivazi et al. 2025, arXiv 2504.07976). Quadrilaterals of second order; opposite sides have the same points.
SetFactory("OpenCASCADE");
n = 12; // intervals on a side before the cells are split into quadrilaterals; 19: about the published mesh

Rectangle(1) = {-0.5, -0.5, 0, 1, 1};
Disk(2) = {0, 0, 0, 0.35, 0.175};
Rotate { {0, 0, 1}, {0, 0, 0}, Pi / 6 } { Surface{2}; }
all() = BooleanFragments{ Surface{1}; Delete; }{ Surface{2}; Delete; };

e = 1e-6;
m = 0.5 + e;
inclusion() = Surface In BoundingBox {-0.4, -0.4, -e, 0.4, 0.4, e};
matrix() = all();
matrix() -= inclusion();

Physical Surface("matrix") = {matrix()};
Physical Surface("inclusion") = {inclusion()};
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
Mesh.MeshSizeFromCurvature = n;
Mesh.Algorithm = 6;
Mesh.RecombineAll = 1;
Mesh.RecombinationAlgorithm = 0; // the others put two sides of a cell on one arc
Mesh.SubdivisionAlgorithm = 1;
Mesh.ElementOrder = 2;
