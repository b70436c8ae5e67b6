FROM rich AS one
ENV X=1
ENTRYPOINT ["entry"]
FROM one
RUN echo $X $A >/tmp/x; pwd >/tmp/pwd; id >/tmp/id
CMD ["two"]
