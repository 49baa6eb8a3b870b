// A periodic cell of 1 m x 1 m, a checkerboard of two phases. Opposite sides have the same points;
// points gather at the corners of the squares, where the flux is singular.
n = 12; // intervals on the side of a square

For j In {0:2}
  For i In {0:2}
    Point(1 + i + 3 * j) = {i / 2, j / 2, 0};
  EndFor
EndFor
For j In {0:2}
  For i In {0:1}
    Line(1 + i + 2 * j) = {1 + i + 3 * j, 2 + i + 3 * j};   // 1 to 6: along x
    Line(7 + j + 3 * i) = {1 + j + 3 * i, 4 + j + 3 * i};   // 7 to 12: along y
  EndFor
EndFor
For j In {0:1}
  For i In {0:1}
    k = 1 + i + 2 * j;
    Curve Loop(k) = {k, 8 + i + 3 * j, -(k + 2), -(7 + i + 3 * j)};
    Plane Surface(k) = {k};
  EndFor
EndFor
Transfinite Curve {1:12} = n + 1 Using Bump 0.1;

Physical Surface("white") = {1, 4};
Physical Surface("black") = {2, 3};
Physical Curve("left") = {7, 10};
Physical Curve("right") = {9, 12};
Physical Curve("bottom") = {1, 2};
Physical Curve("top") = {5, 6};
