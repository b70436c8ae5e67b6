FROM base
COPY --chown=stranger a.txt /a
