FROM rich
USER root
COPY --chown=33:33 dir /d
COPY --chown=web a.txt /d/g/four
