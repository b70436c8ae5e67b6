FROM base
COPY a.txt missing/* /x/
