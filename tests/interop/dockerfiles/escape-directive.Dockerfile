# escape=`
FROM base
RUN echo a `
  b >/x
ENV P=C:\dir\${X:-y}`$z
COPY a.txt `
  /dst\
RUN echo back\slash >/y
