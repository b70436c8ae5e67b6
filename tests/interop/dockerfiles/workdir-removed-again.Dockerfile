FROM base
WORKDIR /w/x
RUN rm -r /w
RUN pwd >/pwd
COPY a.txt .
