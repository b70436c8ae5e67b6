FROM rich
USER root
WORKDIR /links/../to-d
RUN pwd >/pwd
WORKDIR /a/
RUN pwd >>/pwd
