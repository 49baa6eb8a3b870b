// Cook's membrane: a tapered panel, 48 mm wide, 44 mm high at the left and 16 mm at the right; 224 quadrilaterals.
Point(1) = {0, 0, 0};
Point(2) = {48, 44, 0};
Point(3) = {48, 60, 0};
Point(4) = {0, 44, 0};
Line(1) = {1, 2};
Line(2) = {2, 3};
Line(3) = {3, 4};
Line(4) = {4, 1};
Curve Loop(1) = {1:4};
Plane Surface(1) = {1};
Transfinite Curve {1, 3} = 17;
Transfinite Curve {2, 4} = 15;
Transfinite Surface {1};
Recombine Surface {1};

Physical Surface("membrane") = {1};
Physical Curve("left") = {4};
Physical Curve("right") = {2};
Physical Curve("bottom") = {1};
Physical Curve("top") = {3};
