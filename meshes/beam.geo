// A beam of 4 m x 1 m x 1 m along x, of four hexahedra.
Point(1) = {0, 0, 0};
Point(2) = {0, 1, 0};
Point(3) = {0, 1, 1};
Point(4) = {0, 0, 1};
Line(1) = {1, 2};
Line(2) = {2, 3};
Line(3) = {3, 4};
Line(4) = {4, 1};
Curve Loop(1) = {1:4};
Plane Surface(1) = {1};
Transfinite Curve {1:4} = 2;
Transfinite Surface {1};
Recombine Surface {1};
out[] = Extrude {4, 0, 0} { Surface{1}; Layers{4}; Recombine; };

Physical Volume("beam") = {out[1]};
Physical Surface("fixed") = {1};
Physical Surface("end") = {out[0]};
Physical Surface("sides") = {out[2], out[3], out[4], out[5]};
