ARG V=1
FROM base AS b1
ARG V
ENV X=$V
RUN echo $X >/x
FROM b1 AS B2
ARG V=2
RUN echo $V $X >/y
FROM scratch AS unused
COPY nothing /
FROM b2
COPY --from=b1 /x /x1
COPY --from=0 /x /x0
RUN --mount=from=B1,target=/m cat /m/x >/xm
ARG V
RUN echo "<$V>" >/v
ARG A
ARG B=b
ENV A=env
RUN echo $A $B >/1
ARG A=late
RUN echo $A >/2
ENV B=${B}2 C=$B
RUN echo $B $C >/3
ARG B=again
RUN echo $B >/4
LABEL l=$A
USER ${U:-app}
WORKDIR /w/$B
COPY ${F:-a.txt} $B/
