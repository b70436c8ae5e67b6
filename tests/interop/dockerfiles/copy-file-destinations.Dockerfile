FROM base
COPY a.txt /file
COPY a.txt /new/dir/
COPY a.txt /new/deep/er/file
COPY a.txt b.txt /many/
COPY a.txt relative
WORKDIR /w
COPY a.txt .
COPY b.txt ./
COPY c.sh ./sub/
COPY a.txt here
COPY .dot ..
COPY a.txt b.txt ./
COPY empty /w
