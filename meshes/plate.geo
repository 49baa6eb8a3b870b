// A plate of 2 m x 1 m with three holes: a circle (hot pipe), a slot and a triangle (insulated).
SetFactory("OpenCASCADE");
h = 0.165;
Rectangle(1) = {0, 0, 0, 2, 1};
Disk(2) = {0.45, 0.55, 0, 0.18};
Rectangle(3) = {0.9, 0.18, 0, 0.5, 0.16};
Point(101) = {1.40, 0.60, 0};
Point(102) = {1.75, 0.52, 0};
Point(103) = {1.62, 0.84, 0};
Line(101) = {101, 102};
Line(102) = {102, 103};
Line(103) = {103, 101};
Curve Loop(101) = {101, 102, 103};
Plane Surface(4) = {101};
BooleanDifference(5) = { Surface{1}; Delete; }{ Surface{2, 3, 4}; Delete; };

Physical Surface("plate") = {5};
e = 1e-3;
Physical Curve("left") = Curve In BoundingBox {-e, -e, -e, e, 1 + e, e};
Physical Curve("right") = Curve In BoundingBox {2 - e, -e, -e, 2 + e, 1 + e, e};
Physical Curve("bottom") = Curve In BoundingBox {-e, -e, -e, 2 + e, e, e};
Physical Curve("top") = Curve In BoundingBox {-e, 1 - e, -e, 2 + e, 1 + e, e};
Physical Curve("circle") = Curve In BoundingBox {0.25, 0.35, -e, 0.65, 0.75, e};
Physical Curve("slot") = Curve In BoundingBox {0.89, 0.17, -e, 1.41, 0.35, e};
Physical Curve("triangle") = Curve In BoundingBox {1.39, 0.5, -e, 1.76, 0.85, e};

MeshSize { PointsOf { Physical Surface{1}; } } = h;
Mesh.MeshSizeFromCurvature = 12;
Mesh.MeshSizeMax = h;
Mesh.Algorithm = 6;
