// An equilateral triangle of side 1 with a notch of width 0.02 and height 0.4 in the middle of its base.
h = 0.1;    // away from the notch
t = 0.03;   // at its tip
Point(1) = {0, 0, 0, h};
Point(2) = {0.49, 0, 0, 2 * t};
Point(3) = {0.49, 0.4, 0, t};
Point(4) = {0.51, 0.4, 0, t};
Point(5) = {0.51, 0, 0, 2 * t};
Point(6) = {1, 0, 0, h};
Point(7) = {0.5, Sqrt(3) / 2, 0, h};
Line(1) = {1, 2};
Line(2) = {2, 3};
Line(3) = {3, 4};
Line(4) = {4, 5};
Line(5) = {5, 6};
Line(6) = {6, 7};
Line(7) = {7, 1};
Curve Loop(1) = {1:7};
Plane Surface(1) = {1};

Physical Surface("triangle") = {1};
Physical Curve("outer") = {1, 5, 6, 7};
Physical Curve("notch") = {2, 3, 4};
Mesh.Algorithm = 6;
