FROM rich
USER root
RUN mkdir /d/x
COPY dir /d
