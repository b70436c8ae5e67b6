FROM base
COPY link-to-dir/* a.txt /x/
