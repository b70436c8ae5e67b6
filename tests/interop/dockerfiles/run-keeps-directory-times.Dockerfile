FROM rich
USER root
RUN cat /d/one >/dev/null
RUN touch -c -d @700000000 /d/e
COPY a.txt /d/g/
