FROM base
COPY link-to-file /f
COPY link-to-dir /d
COPY link-absolute /abs
COPY link-out /out
COPY link-to-link /ll/
COPY link-to-file link-to-dir /both/
COPY dir/up /up/
