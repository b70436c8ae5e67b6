FROM base
COPY glob/nothing* a.txt /x/
COPY missin[g] /y/
