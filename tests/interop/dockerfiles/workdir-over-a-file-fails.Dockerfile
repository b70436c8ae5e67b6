FROM rich
WORKDIR /d/one/x
