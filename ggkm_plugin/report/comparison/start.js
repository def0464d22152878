// The beginning: the last of the scripts.

function start() {
  readAddress();
  renderControls();
  renderList();
  renderPlot();
  scaleErrors();
  renderPanes();
  markList();
}

renderHeader();
renderTables();
$('explore').hidden = !data.datasets.some(({images}) => images.length);
$('skip').hidden = $('explore').hidden;
if (!$('explore').hidden) {
  paintColours();
  wirePlot();
  wireZoom();
  wireControls();
  start();
}
