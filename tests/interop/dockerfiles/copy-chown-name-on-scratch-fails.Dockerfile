FROM scratch
COPY --chown=app a.txt /a
