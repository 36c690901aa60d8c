"""What the proxy is measured beside: installed (`installing`), configured (the files here), started (`starting`)."""
