FROM base
COPY --chown=app a.txt /1
COPY --chown=app:web a.txt /2
COPY --chown=1000 a.txt /3
COPY --chown=1000:33 a.txt /4
COPY --chown=:50 a.txt /5
COPY --chown=4242:staff a.txt /6
COPY --chown=app dir /7/deep/er
COPY --chown=web: a.txt /8
COPY --chown=root:apps a.txt /9
