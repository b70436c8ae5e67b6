FROM base
COPY caps/user /user
