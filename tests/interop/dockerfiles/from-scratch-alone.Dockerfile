FROM scratch
LABEL x=y
ENV Z=1
COPY empty /
