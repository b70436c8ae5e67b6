FROM rich
USER root
ARG A=arg
RUN echo $A >/1
ENV A=env
RUN echo $A >/2
ARG A=arg2
RUN echo $A >/3
ARG B
RUN echo $B >/4
ENV C=$A$B
