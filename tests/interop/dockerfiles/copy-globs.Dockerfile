FROM base
COPY glob/*.txt /star/
COPY glob/f?.txt /one/
COPY glob/f[0-9].txt /class/
COPY glob/f[^0-9]* /negated/
COPY glob/f[a1].* /two/
COPY glob/* /all/
COPY g*b/d?/f*.txt /wild/
COPY brackets[[]1].txt /escaped/
COPY glob/d* /dirs/
COPY *.sh .d* /top/
