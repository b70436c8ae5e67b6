FROM base
COPY --chmod=600 a.txt /1
COPY --chmod=4755 c.sh /2
COPY --chmod=0640 dir /3
COPY --chmod=777 a.txt /deep/er/4
COPY --chmod=711 --chown=app modes /5
COPY --chmod=1777 void /6/
