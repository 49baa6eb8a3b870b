// A disc of radius 1 with three obstacles in it: two circles and a square.
SetFactory("OpenCASCADE");
h = 0.16;
Disk(1) = {0, 0, 0, 1};
Disk(2) = {-0.25, 0.25, 0, 0.16};
Disk(3) = {0.3, 0.2, 0, 0.12};
Rectangle(4) = {-0.1, -0.45, 0, 0.24, 0.24};
BooleanDifference(5) = { Surface{1}; Delete; }{ Surface{2, 3, 4}; Delete; };

e = 1e-3;
Physical Surface("medium") = {5};
Physical Curve("obstacles") = Curve In BoundingBox {-0.5, -0.5, -e, 0.5, 0.5, e};
Physical Curve("outer") = Curve In BoundingBox {-1 - e, -1 - e, -e, 1 + e, 1 + e, e};
Physical Curve("outer") -= Curve In BoundingBox {-0.5, -0.5, -e, 0.5, 0.5, e};

Mesh.MeshSizeFromCurvature = 12;
Mesh.MeshSizeMax = h;
Mesh.Algorithm = 6;
