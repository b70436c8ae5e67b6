FROM rich AS r
FROM base
WORKDIR /w/x
COPY ../../a.txt /up
COPY ../dir/../b.txt ../../../../down
COPY /c.sh /c
COPY --from=r ../../d/one /one
COPY ./a.txt ./././b
