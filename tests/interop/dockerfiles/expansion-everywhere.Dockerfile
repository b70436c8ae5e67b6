FROM base
ENV N=a.txt D=/dest U=app P=8080 S=KILL V=/vol
COPY $N ${D}/copied
ADD --chown=${U}:${G:-web} ${N} $D/added
WORKDIR $D/${unset:-w}
USER $U
EXPOSE $P ${P}/udp
VOLUME $V ["$V"]
LABEL "$N"="$D" l='$N'
STOPSIGNAL SIG$S
CMD echo $N
