FROM rich
USER root
WORKDIR //b//c/./d/
RUN pwd >>/pwd
WORKDIR e/
