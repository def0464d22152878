// Starts the page.

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
  paintColors();
  wirePlot();
  wireZoom();
  wireControls();
  start();
}
