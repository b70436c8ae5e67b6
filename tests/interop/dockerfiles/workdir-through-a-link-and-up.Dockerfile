FROM rich
USER root
RUN ln -s d/e /up
WORKDIR /up/../here
RUN pwd -P >/pwd
COPY a.txt ./
