"""What only this repository needs: lesson runner, site, bench, doctor."""
