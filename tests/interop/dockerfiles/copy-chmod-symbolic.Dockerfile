FROM base
COPY --chmod=u=rwX,go=rX a.txt c.sh b.txt /1/
COPY --chmod=+x a.txt /2
COPY --chmod=go-rwx,u+s c.sh /3
COPY --chmod=a=r,u+w c.sh /4
COPY --chmod=g=u b.txt /5
