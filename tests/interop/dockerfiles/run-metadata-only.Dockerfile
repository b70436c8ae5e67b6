FROM rich
USER root
RUN chmod 711 /d/e && chown 3:4 /d/one && touch -d @800000000 /d/g/four
RUN chown -h 9:9 /to-d && chmod 1700 /opq
RUN chown -R app:apps /links
RUN true
