FROM base
COPY dangling /x
