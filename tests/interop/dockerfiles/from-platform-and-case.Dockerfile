from --platform=$BUILDPLATFORM base as First
run echo 1 >/1
FROM first
Copy a.txt /A
