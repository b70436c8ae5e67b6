FROM rich
USER root
RUN mkdir -m 711 /x && mkdir -m 700 /x/t && echo old >/x/t/soft && mkdir /x/t/suid
ADD tar/plain.tar /x
