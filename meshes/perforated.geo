// A sheet of 2 m x 1 m with three round holes. Left and bottom are planes of symmetry or clamps.
SetFactory("OpenCASCADE");
h = 0.15;
Rectangle(1) = {0, 0, 0, 2, 1};
Disk(2) = {0.45, 0.6, 0, 0.2};
Disk(3) = {1.05, 0.35, 0, 0.15};
Disk(4) = {1.55, 0.65, 0, 0.18};
BooleanDifference(5) = { Surface{1}; Delete; }{ Surface{2, 3, 4}; Delete; };

e = 1e-3;
Physical Surface("sheet") = {5};
Physical Curve("left") = Curve In BoundingBox {-e, -e, -e, e, 1 + e, e};
Physical Curve("right") = Curve In BoundingBox {2 - e, -e, -e, 2 + e, 1 + e, e};
Physical Curve("bottom") = Curve In BoundingBox {-e, -e, -e, 2 + e, e, e};
Physical Curve("top") = Curve In BoundingBox {-e, 1 - e, -e, 2 + e, 1 + e, e};
Physical Curve("holes") = Curve In BoundingBox {0.2, 0.15, -e, 1.8, 0.85, e};

Mesh.MeshSizeFromCurvature = 14;
Mesh.MeshSizeMax = h;
Mesh.Algorithm = 6;
