// An L-shaped profile with arms of 50 mm in a square of 100 mm; finer at the inner corner.
h = 9;    // away from the corner
t = 1.5;  // at the corner
Point(1) = {0, 0, 0, h};
Point(2) = {50, 0, 0, h};
Point(3) = {50, 50, 0, t};
Point(4) = {100, 50, 0, h};
Point(5) = {100, 100, 0, h};
Point(6) = {0, 100, 0, h};
Line(1) = {1, 2};
Line(2) = {2, 3};
Line(3) = {3, 4};
Line(4) = {4, 5};
Line(5) = {5, 6};
Line(6) = {6, 1};
Curve Loop(1) = {1:6};
Plane Surface(1) = {1};

Physical Surface("profile") = {1};
Physical Curve("foot") = {1};
Physical Curve("end") = {4};
Physical Curve("sides") = {2, 3, 5, 6};
Mesh.Algorithm = 6;
