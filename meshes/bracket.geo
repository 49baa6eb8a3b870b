// An angle bracket, m: a leg with a bolt hole and an arm of the same width.
SetFactory("OpenCASCADE");
h = 0.016;
Box(1) = {0, 0, 0, 0.012, 0.06, 0.1};        // leg
Box(2) = {0, 0, 0, 0.1, 0.06, 0.012};        // arm
Cylinder(3) = {-0.01, 0.03, 0.065, 0.04, 0, 0, 0.012};
BooleanUnion(4) = { Volume{1}; Delete; }{ Volume{2}; Delete; };
BooleanDifference(5) = { Volume{4}; Delete; }{ Volume{3}; Delete; };

e = 1e-5;
Physical Volume("bracket") = {5};
Physical Surface("bolt") = Surface In BoundingBox {-e, 0.018 - e, 0.053 - e, 0.012 + e, 0.042 + e, 0.077 + e};
Physical Surface("end") = Surface In BoundingBox {0.1 - e, -e, -e, 0.1 + e, 0.06 + e, 0.012 + e};
Physical Surface("top") = Surface In BoundingBox {-e, -e, 0.012 - e, 0.1 + e, 0.06 + e, 0.012 + e};

Mesh.MeshSizeFromCurvature = 10;
Mesh.MeshSizeMax = h;
