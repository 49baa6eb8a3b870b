// A periodic cell of 1 x 1 with three circles, volume fraction 0.13352 (RVE 3 of
// Eivazi et al. 2025, arXiv 2504.07976). Quadrilaterals of second order; opposite sides have the same points.
SetFactory("OpenCASCADE");
n = 12; // intervals on a side before the cells are split into quadrilaterals; 15: about the published mesh

Rectangle(1) = {-0.5, -0.5, 0, 1, 1};
Disk(2) = {0, -0.25, 0, 0.1};
Disk(3) = {0.25, 0.15, 0, 0.15};
Disk(4) = {-0.25, 0.25, 0, 0.1};
all() = BooleanFragments{ Surface{1}; Delete; }{ Surface{2:4}; Delete; };

e = 1e-6;
m = 0.5 + e;
inclusion() = Surface In BoundingBox {-0.45, -0.45, -e, 0.45, 0.45, e};
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
