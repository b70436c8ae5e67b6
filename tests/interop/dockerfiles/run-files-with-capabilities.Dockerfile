FROM base
COPY caps /caps
RUN ln /caps/cap /caps/link && chmod 700 /caps/sub/cap && mv /caps/cap /moved
RUN chown 1000 /moved && cp /caps/link /copy
