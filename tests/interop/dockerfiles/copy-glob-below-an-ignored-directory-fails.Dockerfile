FROM base
COPY dir/* a.txt /x/
