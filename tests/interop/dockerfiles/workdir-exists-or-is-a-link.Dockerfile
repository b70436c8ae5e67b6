FROM rich
WORKDIR /d/e
WORKDIR /to-d/new
RUN pwd >/tmp/pwd
