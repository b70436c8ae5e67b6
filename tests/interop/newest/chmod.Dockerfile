FROM base
COPY --chmod=u=rwX,go=rX dir /1/
COPY --chmod=a-w,u+w modes /2/
COPY --chmod=g+s,o+t other /3/
COPY --chmod=u=rw,g=u,o=g a.txt /4
COPY --chmod=+x a.txt b.txt /5/
COPY --chmod=go-rwx --chown=app dir /new/deep/
COPY --chmod=0 a.txt /6
COPY --chmod=4755 c.sh /7
COPY --chmod=u+s,g+s c.sh /8
COPY --chmod=1777 void /9/
COPY --chmod=755 link-to-file /10
COPY --chmod=600 dir/link /11
COPY --chmod=a=r glob /12/
COPY --chmod=+X c.sh a.txt /13/
COPY --chmod=u=rwx,u-w,g=rx,o= a.txt /14
COPY --chmod=ug+rw a.txt /15
COPY --chmod=755 <<A <<B /16/
a
A
b
B
COPY --chmod=u+x --chown=app:web <<A /17
a
A
ADD --chmod=711 tar/plain.tar /18/
ADD --chmod=go-w --chown=1000 tar/packed.gz /19/
COPY --chmod=${M:-640} a.txt /20
COPY --chmod=g= modes /21/
