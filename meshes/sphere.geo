// A periodic cell of 1 x 1 x 1 with a sphere of volume fraction 0.2 at its centre. Tetrahedra of second order;
// opposite sides have the same points.
SetFactory("OpenCASCADE");
n = 5; // intervals on an edge
R = (0.2 * 3 / (4 * Pi))^(1 / 3);

Box(1) = {-0.5, -0.5, -0.5, 1, 1, 1};
Sphere(2) = {0, 0, 0, R};
all() = BooleanFragments{ Volume{1}; Delete; }{ Volume{2}; Delete; };
e = 1e-6;
m = 0.5 + e;
inclusion() = Volume In BoundingBox {-R - e, -R - e, -R - e, R + e, R + e, R + e};
matrix() = all();
matrix() -= inclusion();

Physical Volume("matrix") = {matrix()};
Physical Volume("inclusion") = {inclusion()};
left() = Surface In BoundingBox {-m, -m, -m, -0.5 + e, m, m};
right() = Surface In BoundingBox {0.5 - e, -m, -m, m, m, m};
front() = Surface In BoundingBox {-m, -m, -m, m, -0.5 + e, m};
back() = Surface In BoundingBox {-m, 0.5 - e, -m, m, m, m};
bottom() = Surface In BoundingBox {-m, -m, -m, m, m, -0.5 + e};
top() = Surface In BoundingBox {-m, -m, 0.5 - e, m, m, m};
Periodic Surface {right()} = {left()} Translate {1, 0, 0};
Periodic Surface {back()} = {front()} Translate {0, 1, 0};
Periodic Surface {top()} = {bottom()} Translate {0, 0, 1};
Physical Surface("left") = {left()};
Physical Surface("right") = {right()};
Physical Surface("front") = {front()};
Physical Surface("back") = {back()};
Physical Surface("bottom") = {bottom()};
Physical Surface("top") = {top()};

MeshSize { PointsOf { Volume{all()}; } } = 1 / n;
Mesh.MeshSizeMax = 1 / n;
Mesh.ElementOrder = 2;
Mesh.HighOrderOptimize = 1;
