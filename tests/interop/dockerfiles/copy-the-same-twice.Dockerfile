FROM base
COPY a.txt /a
COPY a.txt /a
RUN true
RUN true
COPY --chown=5 a.txt /a
COPY dir /x
COPY dir /x
