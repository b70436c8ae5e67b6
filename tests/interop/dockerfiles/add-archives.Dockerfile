FROM base
ADD tar/plain.tar /plain
ADD tar/packed.gz /gz/deep/
ADD tar/packed.tar.bz2 /bz2/
ADD tar/packed.bin /xz/
ADD tar/gzip-of-text.gz /no1/
ADD tar/text.tar /no2
ADD tar/empty.tar /no3/
COPY tar/plain.tar /copied.tar
ADD a.txt /file
ADD dir /dir
