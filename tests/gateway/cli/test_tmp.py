import shutil
def test_make(ledger, site, run):
    run("mandates","import",site.parent/"mandates.csv","--config",site)
    shutil.rmtree("/tmp/demo_site", ignore_errors=True); shutil.copytree(site.parent,"/tmp/demo_site")
