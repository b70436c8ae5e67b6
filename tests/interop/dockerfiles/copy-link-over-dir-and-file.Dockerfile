FROM rich
USER root
RUN mkdir /d/c2 && echo b >/d/c && ln -s one /d/b
COPY conflict /d
