FROM base AS first
ENV S=stage
ONBUILD RUN echo on $S >>/onbuild
ONBUILD ENTRYPOINT ["from", "onbuild"]
FROM first AS second
RUN echo second >>/onbuild
FROM second
RUN echo third >>/onbuild
